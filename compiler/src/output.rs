//! Files: the image of a linked program, and the executables and objects that hold it.

mod executable;
mod image;
mod object;
mod portable;
mod unwind_tables;

pub use executable::write_executable;
pub use image::LinkedImage;
pub(crate) use image::build as build_images;
pub use object::write_object;
pub use portable::write_portable;
