//! The port table: the memory in which a port map tells its server who owns which
//! port.

use segue_portmap_core::REGION_SIZE;

use super::{Draft, NamedMap};
use crate::model::Map;

/// The variable that receives its address, in the port map and in the server.
const VARIABLE: &str = "port_table";

impl Draft<'_, '_> {
    /// Reports a port table that is missing, too small, not shared, or that the
    /// server could change. `at` is the frame channel that needs it.
    pub(super) fn check_port_table(&mut self, portmap: usize, server: usize, at: usize) {
        let mut tables = Vec::new();
        for domain in [portmap, server] {
            let named = |map: &&NamedMap| map.symbol == VARIABLE;
            let Some(map) = self.domains[domain].named_maps.iter().find(named) else {
                let message = format!(
                    "\"{}\" maps no port table: map a region of {REGION_SIZE:#x} bytes into \"{}\" and, read-only, into \"{}\", with setvar_vaddr=\"{VARIABLE}\"",
                    self.domain_name(domain),
                    self.domain_name(portmap),
                    self.domain_name(server)
                );
                self.diagnostics.error(at, message);
                return;
            };
            tables.push((map.region, map.writable, map.at));
        }
        let [(region, _, _), (server_region, server_writes, server_at)] = tables[..] else {
            return;
        };
        if region != server_region {
            let message = format!(
                "the port table of \"{}\" is another region than that of \"{}\": map one into both",
                self.domain_name(server),
                self.domain_name(portmap)
            );
            self.diagnostics.error(server_at, message);
        }
        if server_writes {
            self.diagnostics.error(
                server_at,
                "a server only reads the port table: write perms=\"r\"",
            );
        }
        // The server's own map has just been looked at.
        let writers = self.system.protection_domains.iter().enumerate();
        let writers = writers.filter(|(domain, described)| {
            let writes = |map: &Map| map.region == region && map.writable;
            *domain != portmap
                && !(*domain == server && server_writes)
                && described.maps.iter().any(writes)
        });
        for (_, writer) in writers {
            self.diagnostics.error(
                self.regions[region.0].at,
                format!(
                    "\"{}\" may write this port table, which is \"{}\"'s alone: write perms=\"r\" into its map",
                    writer.name, self.system.protection_domains[portmap].name
                ),
            );
        }
        let size = self.system.regions[region.0].size;
        if self.regions[region.0].size_known && size < REGION_SIZE as u64 {
            let region_at = self.regions[region.0].at;
            self.diagnostics.error(
                region_at,
                format!(
                    "the region is too small for a port table: write size=\"{REGION_SIZE:#x}\""
                ),
            );
        }
    }
}
