//! The image: one module's metadata for one architecture, as it lies in an executable's metadata segment beside the text.
