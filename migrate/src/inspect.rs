//! A snapshot shown to a person (text) or to a program (JSON).
