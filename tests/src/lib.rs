//! Shared harness of the tests that run real executables.
