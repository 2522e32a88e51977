//! Where does this frame of an application go?

use super::Frame;
use super::world::World;
use segue_netserver_core::inside::Route;

/// Where the frame with these headers, which breaks no rule, goes.
pub fn route(world: &World, sender: usize, header: &[u8]) -> Route {
    let frame = Frame(header);
    let is_for_group = frame.byte(0) & 1 != 0;
    if !is_for_group {
        return if world.with_mac(frame.mac(0)) == 0 {
            Route::Out
        } else {
            Route::Inside
        };
    }
    // Who is in direct mode has sent it to the network itself.
    let is_direct = world.direct & 1 << sender != 0;
    let (both, out) = if is_direct {
        (Route::Others, Route::Nowhere)
    } else {
        (Route::Both, Route::Out)
    };
    match frame.word(12) {
        0x0806 => {
            let (asker, target) = (frame.ipv4(28), frame.ipv4(38));
            let is_probe = asker == [0; 4];
            if frame.word(20) != 1 || is_probe || world.with_ipv4(target) == 0 {
                out
            } else if asker == target {
                both
            } else {
                Route::Inside
            }
        }
        0x0800 if world.is_broadcast(frame.ipv4(30)) => both,
        0x86dd => {
            let is_solicitation = frame.byte(20) == 58 && frame.byte(54) == 135;
            let is_probe = frame.ipv6(22) == [0; 16];
            if is_solicitation && !is_probe && world.with_ipv6(frame.ipv6(62)) != 0 {
                Route::Inside
            } else {
                out
            }
        }
        _ => out,
    }
}
