//! All fault points.

/// Whose code a point lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The runtime, which every protection domain has.
    Runtime,
    /// What applications share: they have a frame channel, and perhaps a virtual function.
    Application,
    /// The server of this name.
    Server(&'static str),
}

macro_rules! points {
    ($(
        $part:expr => {
            $($point:ident = $name:literal: $before:literal | $after:literal;)*
        }
    )*) => {
        /// A place between two steps that must go together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Point {
            $($(#[doc = concat!("After ", $before, ", before ", $after, ".")] $point,)*)*
        }

        impl Point {
            /// All points.
            pub const ALL: &[Self] = &[$($(Self::$point,)*)*];

            /// Whose code it lies in.
            pub const fn part(self) -> Part {
                match self {
                    $($(Self::$point)|* => $part,)*
                }
            }

            /// Its name, which no other point of the same protection domain has.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$point => $name,)*)*
                }
            }

            /// What has been done there, and what comes next.
            pub const fn sides(self) -> (&'static str, &'static str) {
                match self {
                    $($(Self::$point => ($before, $after),)*)*
                }
            }
        }
    };
}

points! {
    Part::Runtime => {
        RuntimeStarting = "runtime-starting": "the program has been started" | "it looks at anything";
        RuntimeStarted = "runtime-started": "it has initialised itself" | "its interrupts can come again";
        RuntimeReceived = "runtime-received": "a signal or a call was received" | "it is handled";
        RuntimeHandled = "runtime-handled": "a signal or a call was handled" | "the caller gets its answer";
    }
}

/// Servers that use nothing of what applications share.
const SERVERS: [&str; 7] = [
    "timer",
    "pcie",
    "igb-pf",
    "portmap",
    "director",
    "console",
    "netserver",
];

impl Point {
    /// The points that the protection domain called `domain` has. Who is called like no server is
    /// taken for an application.
    pub fn of(domain: &str) -> impl Iterator<Item = Self> + '_ {
        Self::ALL
            .iter()
            .copied()
            .filter(move |point| match point.part() {
                Part::Runtime => true,
                Part::Application => !SERVERS.contains(&domain),
                Part::Server(server) => server == domain,
            })
    }

    /// The point of this name of the protection domain called `domain`.
    pub fn find(domain: &str, name: &str) -> Option<Self> {
        Self::of(domain).find(|point| point.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_places() {
        for (place, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, place);
        }
    }

    #[test]
    fn each_is_found_by_its_name() {
        for point in Point::ALL {
            let domain = match point.part() {
                Part::Runtime | Part::Application => "http",
                Part::Server(server) => server,
            };
            assert_eq!(Point::find(domain, point.name()), Some(*point));
        }
        assert_eq!(Point::find("http", "nowhere"), None);
    }

    #[test]
    fn names_are_words_and_one_domain_has_each_once() {
        for domain in SERVERS.into_iter().chain(["http", "dhcp"]) {
            let mut seen = HashSet::new();
            for point in Point::of(domain) {
                let name = point.name();
                assert!(seen.insert(name), "{domain} has {name} twice");
                let fine = |letter: char| letter.is_ascii_lowercase() || letter == '-';
                assert!(name.chars().all(fine), "{name}");
            }
        }
    }

    #[test]
    fn all_have_the_runtime_s_points() {
        for domain in SERVERS {
            assert!(Point::of(domain).any(|point| point == Point::RuntimeReceived));
        }
    }
}
