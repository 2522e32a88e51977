//! The frame channel between an application and the network server.
#![no_std]
