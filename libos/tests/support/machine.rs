//! The rest of the machine: a network server behind a frame channel, and a network card
//! with a filter, of which the stack may get a virtual function.

use super::*;
use segue_frame_channel::{ClientChannel, ReceivedFrame, ServerChannel, layout};
use segue_igb_driver::simulation::SimulatedFunction;
use segue_shared_memory::testing::{leaked_private_region, leaked_region};
use segue_shared_memory::{PrivateRegion, Region};

const ENTRIES: u32 = 256;
const RINGS: u64 = 0x1000_0000;
const POOL: u64 = 0x2000_0000;
const POOL_SIZE: usize = 0x4_0000;
/// A station behind the network server.
pub const INSIDE_MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 7];

/// Where the card puts frames for the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Server,
    Function,
    /// While the filter is moved.
    Both,
}

pub struct Machine {
    network: Rc<RefCell<Network>>,
    channel: ServerChannel<Region>,
    regions: [Region; 3],
    pub device: Option<SimulatedFunction>,
    pub route: Route,
    /// The server keeps what the stack sends inside the machine.
    pub direct: bool,
    /// The server does nothing for so many rounds.
    pub pause: u32,
    /// What the server has delivered inside.
    pub inside: Vec<Vec<u8>>,
    /// Of each function after the other.
    rings: Region,
}

impl Machine {
    /// A world whose stack is behind a network server.
    pub fn world(settings: Settings) -> (World, Rc<RefCell<Self>>) {
        let mut made = None;
        let mut world = World::over(settings, |network| {
            let client = leaked_region(layout::client_region_size(ENTRIES));
            let server = leaked_region(layout::server_region_size(ENTRIES));
            let (pool, seen) = leaked_private_region(0x20_0000);
            let channel = ClientChannel::new(client, server, pool, ENTRIES, ENTRIES).unwrap();
            let regions = [client, server, seen];
            made = Some(Self {
                network: network.clone(),
                channel: Self::open(regions),
                regions,
                device: None,
                route: Route::Server,
                direct: false,
                pause: 0,
                inside: vec![],
                rings: leaked_region(function_rings_size()).with_device_address(RINGS),
            });
            Vif::new(Box::new(FrameChannel::new(
                channel,
                "netserver",
                Box::new(|| ()),
            )))
        });
        let machine = Rc::new(RefCell::new(made.unwrap()));
        world.machine = Some(machine.clone());
        // The channel comes up.
        world.serve();
        world.serve();
        (world, machine)
    }

    /// A world whose stack has nothing but a function, which does not run yet.
    pub fn direct_world(settings: Settings) -> (World, Rc<RefCell<Self>>) {
        let mut made = None;
        let mut world = World::over(settings, |network| {
            let client = leaked_region(layout::client_region_size(ENTRIES));
            let server = leaked_region(layout::server_region_size(ENTRIES));
            let regions = [client, server, leaked_region(0x4_0000)];
            let mut machine = Self {
                network: network.clone(),
                channel: Self::open(regions),
                regions,
                device: None,
                route: Route::Function,
                direct: true,
                pause: 0,
                inside: vec![],
                rings: leaked_region(function_rings_size()).with_device_address(RINGS),
            };
            let function = machine.function();
            made = Some(machine);
            Vif::always_direct(function)
        });
        let machine = Rc::new(RefCell::new(made.unwrap()));
        world.machine = Some(machine.clone());
        (world, machine)
    }

    fn open([client, server, pool]: [Region; 3]) -> ServerChannel<Region> {
        ServerChannel::new(client, server, pool, ENTRIES, ENTRIES).unwrap()
    }

    /// The server is gone, with what it was doing, and another one is there.
    pub fn reopen(&mut self) {
        self.channel = Self::open(self.regions);
    }

    /// The server is gone and does not come again.
    pub fn close(&mut self) {
        self.channel.cut_off();
    }

    pub fn is_up(&self) -> bool {
        self.channel.is_up()
    }

    /// A function of the card's for the stack.
    pub fn function(&mut self) -> Box<dyn FunctionBackend> {
        let device = SimulatedFunction::new();
        let (pool, seen) = leaked_private_region(POOL_SIZE);
        let pool: PrivateRegion = pool.with_device_address(POOL);
        device.map(&self.rings, true);
        device.map(&seen.with_device_address(POOL), false);
        self.device = Some(device.clone());
        Box::new(Function::new(device, self.rings, pool).unwrap())
    }

    /// Whether time has to go on for the server.
    pub fn is_busy(&self) -> bool {
        self.pause > 0 || self.channel.has_news(false)
    }

    /// All that is to be done now.
    pub fn pump(&mut self) {
        if self.pause > 0 {
            self.pause -= 1;
        } else {
            self.channel.poll().unwrap();
            self.take_from_channel();
        }
        if let Some(device) = &self.device {
            while let Some(frame) = device.take_sent() {
                self.network.borrow_mut().put(false, frame);
            }
        }
        self.deliver();
        let _ = self.channel.publish();
    }

    fn take_from_channel(&mut self) {
        while let Some(frame) = self.channel.peek().unwrap() {
            let mut bytes = vec![0; frame.length as usize];
            self.channel.copy_header(&frame, &mut bytes);
            let (_, ticket) = self.channel.take().unwrap();
            self.channel.complete(ticket);
            if self.direct || bytes[..6] == INSIDE_MAC {
                self.inside.push(bytes);
                continue;
            }
            let size = usize::from(frame.offload.segment_size);
            let mut network = self.network.borrow_mut();
            if size != 0 {
                for segment in segments(&bytes, size) {
                    network.put(false, segment);
                }
                continue;
            }
            if frame.offload.transport_checksum {
                fill_checksums(&mut bytes);
            }
            network.put(false, bytes);
        }
    }

    fn deliver(&mut self) {
        let to_server = self.route != Route::Function && self.channel.is_up();
        loop {
            if to_server && self.channel.receive_room().unwrap() == 0 {
                break;
            }
            let Some(frame) = self.network.borrow_mut().take(true) else {
                break;
            };
            if to_server {
                self.relay(&frame);
            }
            if self.route != Route::Server
                && let Some(device) = &self.device
            {
                device.deliver(&frame);
            }
        }
    }

    /// Gives the stack a frame by the server.
    pub fn relay(&mut self, frame: &[u8]) {
        let received = ReceivedFrame {
            length: frame.len(),
            checksums_verified: false,
        };
        self.channel
            .deliver(received, |region, at| region.write(at, frame));
    }
}
