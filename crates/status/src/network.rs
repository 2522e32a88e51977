//! Counters of the network server.
