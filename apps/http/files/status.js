"use strict";
// Fetches /status.json once a second and shows it.

const byId = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
  let rest = whole;
  let text = "";
  for (const [length, unit] of parts) {
    if (whole >= length) {
      text += `${Math.floor(rest / length)} ${unit} `;
      rest %= length;
    }
  }
  return `${text}${rest} s`;
}

// Text only: nothing that comes from the machine is taken for markup.
function rows(body, lines) {
  body.replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    for (const [text, style] of cells) {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (style) cell.className = style;
      row.append(cell);
    }
    return row;
  }));
}

function show(status) {
  byId("version").textContent = status.version;
  byId("addresses").textContent = status.addresses.join(", ") || "none";
  byId("uptime").textContent = duration(status.uptime_seconds);
  byId("answered").textContent = number(status.requests_answered);
  byId("refused").textContent = number(status.requests_refused);
  byId("connections").textContent = number(status.connections);
  rows(byId("domains"), status.protection_domains.map((domain) => [
    [domain.name],
    [domain.state, domain.state === "running" ? "running" : "stopped"],
    [number(domain.priority), "n"],
    [number(domain.faults), "n"],
    [number(domain.restarts), "n"],
    [domain.restarts ? `${(domain.outage_us / 1000).toFixed(3)} ms` : "–", "n"],
  ]));
  const stops = status.stops ?? [];
  byId("stopping").hidden = stops.length === 0;
  rows(byId("stops"), stops.map((stop) => [
    [duration(stop.at_seconds), "n"],
    [stop.name],
    [stop.reason],
    [number(stop.restarts), "n"],
  ]).reverse());
  rows(byId("channels"), status.frame_channels.map((channel) => [
    [channel.application],
    [number(channel.transmitted_frames), "n"],
    [bytes(channel.transmitted_bytes), "n"],
    [number(channel.received_frames), "n"],
    [bytes(channel.received_bytes), "n"],
    [number(channel.notifications), "n"],
    [number(channel.dropped_frames), "n"],
  ]));
  // Only in a system that switches modes.
  const modes = status.modes ?? [];
  byId("switching").hidden = modes.length === 0;
  rows(byId("modes"), modes.map((application) => [
    [application.name],
    [application.mode, application.mode === "direct" ? "running" : ""],
    [application.function ?? "–", "n"],
    [number(application.switches), "n"],
    [number(application.failures), "n"],
    [application.switches ? `${(application.last_switch_us / 1000).toFixed(3)} ms` : "–", "n"],
  ]));
}

async function refresh() {
  try {
    const response = await fetch("/status.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    show(await response.json());
    byId("state").textContent = "Live.";
  } catch (error) {
    byId("state").textContent = `No answer: ${error.message}. Trying again.`;
  }
  setTimeout(refresh, 1000);
}

refresh();
