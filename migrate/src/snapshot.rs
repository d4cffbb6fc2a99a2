//! The snapshot: the uniform state as a file.
