//! What network applications have in common: joining the network, ports, timeouts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod direct;
mod network;
mod ports;

pub use network::Network;
pub use ports::Portmap;
pub use segue_timer_client::Timeout;

use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use direct::Direct;
use segue_director_core::config::{DirectConfig, NO_CHANNEL};
use segue_frame_channel::ClientChannel;
use segue_frame_channel::config::{self, ClientConfig};
use segue_libos::{
    self as libos, Addresses, Config, EveryPort, FrameChannel, Instant, PortAuthority, Stack, Vif,
};
use sel4_microkit::{Channel, Clock, hardware_random, private_region_at, region_at, var};

/// What an application's stack may use up. See [`Config`].
#[derive(Clone, Copy, Debug)]
pub struct NetworkLimits {
    /// Connections at once, idle ones included.
    pub maximum_connections: usize,
    /// Bytes that the buffers of all connections may take together.
    pub buffer_memory: usize,
    /// Connections remembered in TIME_WAIT.
    pub maximum_time_wait: usize,
}

/// Joins the network as the image builder has described it: the frame channel in `config`, a
/// virtual function of its own, or both, one after the other. Returns a stack without sockets, and
/// what keeps its addresses right. It asks the port map for ports, and for its addresses if they
/// are not known beforehand; one that has none yet gets them later.
///
/// # Panics
/// If the channel or the function cannot be used: the image is wrong.
pub fn start_network(
    config: &'static ClientConfig,
    limits: NetworkLimits,
    seed: [u64; 2],
    clock: &Clock,
) -> (Stack, Network) {
    let direct = var!(direct_mode: DirectConfig = DirectConfig::EMPTY);
    let now = Instant::from_micros(clock.now_microseconds() as i64);
    let settings = |station: &config::Addresses| Config {
        hardware_address: station.mac,
        addresses: addresses(station),
        seed,
        maximum_connections: limits.maximum_connections,
        buffer_memory: limits.buffer_memory,
        maximum_time_wait: limits.maximum_time_wait,
    };
    if config.channel == config::NO_CHANNEL && direct.owner_channel != NO_CHANNEL {
        // Its address is its own, and so are all ports.
        let ports: Box<dyn PortAuthority> = Box::new(EveryPort::default());
        let vif = direct::always_direct(direct);
        let stack = Stack::new(settings(&config.addresses), vif, ports, now);
        return (stack, Network::of_function(config, direct.owner_channel));
    }
    let ports = Portmap::new(config.portmap_channel);
    let mut network = Network::new(config, ports.clone());
    let station = network.ask();
    let vif = Vif::new(Box::new(frame_channel(config)));
    let mut stack = Stack::new(settings(&station), vif, Box::new(ports), now);
    if let Some(direct) = Direct::new(direct) {
        stack.set_control(Box::new(direct));
    }
    (stack, network)
}

fn frame_channel(config: &'static ClientConfig) -> FrameChannel {
    let channel = ClientChannel::new(
        region_at!(config.client_region, config.client_region_size),
        region_at!(config.server_region, config.server_region_size),
        private_region_at!(config.pool, config.pool_size),
        config.transmit_entries,
        config.receive_entries,
    );
    let channel = match channel {
        Ok(channel) => channel,
        Err(error) => panic!(
            "the frame channel to {} cannot be used: {error}",
            config.server()
        ),
    };
    let server = Channel::new(config.channel as usize);
    let mut channel =
        FrameChannel::new(channel, config.server(), Box::new(move || server.notify()));
    if config.flags & config::VERIFY_CHECKSUMS != 0 {
        channel.verify_checksums();
    }
    channel
}

/// Addresses as a stack takes them.
pub fn addresses(of: &config::Addresses) -> Addresses {
    let ipv4 = Ipv4Addr::from(of.ipv4);
    let gateway = Ipv4Addr::from(of.gateway);
    let ipv6 = Ipv6Addr::from(of.ipv6);
    let ipv6_gateway = Ipv6Addr::from(of.ipv6_gateway);
    Addresses {
        ipv4: (!ipv4.is_unspecified()).then_some(libos::Network {
            address: ipv4,
            prefix_length: of.ipv4_prefix_length,
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        }),
        ipv6: (!ipv6.is_unspecified()).then_some(libos::Network {
            address: ipv6,
            prefix_length: of.ipv6_prefix_length,
            gateway: (!ipv6_gateway.is_unspecified()).then_some(ipv6_gateway),
        }),
    }
}

/// Says on the console where a port is open. `kind` comes after each place.
pub fn say_listening(stack: &Stack, port: u16, kind: &str) {
    let Addresses { ipv4, ipv6 } = stack.addresses();
    let ipv4 = ipv4.map(|network| IpAddr::V4(network.address));
    let ipv6 = ipv6.map(|network| IpAddr::V6(network.address));
    if ipv4.is_none() && ipv6.is_none() {
        log::info!("listening on port {port}{kind}");
    }
    for address in ipv4.into_iter().chain(ipv6) {
        log::info!("listening on {}{kind}", SocketAddr::new(address, port));
    }
}

/// A port that the system description sets.
///
/// # Panics
/// If no port has this number: the image is wrong.
pub fn port(number: u64) -> u16 {
    match u16::try_from(number) {
        Ok(port) if port != 0 => port,
        _ => panic!("the system description sets a port to {number}: no port has this number"),
    }
}

/// Two numbers that nobody outside can guess: for sequence numbers and hash tables.
pub fn seed(clock: &Clock) -> [u64; 2] {
    if let (Some(first), Some(second)) = (hardware_random(), hardware_random()) {
        return [first, second];
    }
    log::warn!("the processor has no random numbers: sequence numbers can be guessed");
    [clock.now_nanoseconds(), !clock.now_nanoseconds()]
}
