//! What runs inside an executable.
