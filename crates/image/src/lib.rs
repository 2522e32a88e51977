//! Turns a system description into a boot image, a report and a picture.

pub mod back_end;
pub mod model;
