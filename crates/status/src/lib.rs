//! The layout of the status regions: protection domain states, crash reports, counters.
#![no_std]
