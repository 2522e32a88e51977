//! The library OS: sockets, the TCP/IP stack and the Vif.
#![no_std]
