//! Intel 82576 (igb) physical and virtual function drivers.
#![no_std]
