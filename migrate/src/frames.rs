//! Frame translation: native stack bytes to uniform frames and back, with the frame maps of this architecture.
