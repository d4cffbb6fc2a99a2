//! Frame translation on synthetic maps: two architectures with different frames, and stacks that lie.
