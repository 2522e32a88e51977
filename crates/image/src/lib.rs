//! Turns a system description into a boot image, a report and a picture.
