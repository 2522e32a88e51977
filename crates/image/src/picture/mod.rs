//! Draws the system: protection domains, devices, and who reaches whom.
//!
//! [`graph`] says what there is to draw, the `layout` crate finds a place for
//! everything, and [`canvas`] draws it.

mod canvas;
mod graph;

use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;

use crate::model::System;
use canvas::Canvas;
use graph::{Graph, NodeKind};

/// Size of the letters of labels that the layout reckons with: it takes letters to
/// be as wide as high, so that lines need the blank ones that `spread` puts in
/// between.
const LAYOUT_FONT: usize = 8;

/// Name of the thread that places boxes. It may panic, which is no mistake: the
/// next way to place them is tried. Programs may want to be silent about it.
pub const LAYOUT_THREAD: &str = "layout";

/// An SVG picture of the system.
pub fn draw(system: &System) -> String {
    let graph = Graph::of(system);
    if graph.nodes.is_empty() {
        return Canvas::new().finish();
    }
    // The layout library gives up on some graphs with very many arrows, but not if
    // it may place boxes less well.
    for placement in [Placement::Best, Placement::Simple] {
        let drawn = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(LAYOUT_THREAD.into())
                .spawn_scoped(scope, || draw_graph(&graph, placement))
                .ok()?
                .join()
                .ok()
        });
        if let Some(picture) = drawn {
            return picture;
        }
    }
    Canvas::new().finish()
}

/// How well boxes are placed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    Best,
    Simple,
}

fn draw_graph(graph: &Graph, placement: Placement) -> String {
    let mut canvas = Canvas::new();
    let mut visual = VisualGraph::new(Orientation::TopToBottom);
    let look = |rounded: usize| {
        let black = Color::fast("black");
        StyleAttr::new(black, 1, None, rounded, LAYOUT_FONT)
    };
    let handles: Vec<_> = graph
        .nodes
        .iter()
        .map(|node| {
            let class = match node.kind {
                NodeKind::ProtectionDomain => "pd",
                NodeKind::Device => "device",
            };
            visual.add_node(Element::create_with_properties(
                ShapeKind::new_box(&spread(&node.lines)),
                look(if class == "pd" { 6 } else { 0 }),
                Orientation::TopToBottom,
                canvas::box_size(&node.lines),
                class,
            ))
        })
        .collect();
    for edge in &graph.edges {
        let end = |head: bool| match head {
            true => LineEndKind::Arrow,
            false => LineEndKind::None,
        };
        let (Some(from), Some(to)) = (handles.get(edge.from), handles.get(edge.to)) else {
            continue;
        };
        let arrow = Arrow::with_properties(
            end(edge.head_at_from),
            end(edge.head_at_to),
            LineStyleKind::Normal,
            &spread(&edge.lines),
            &look(0),
            edge.kind.class(),
            &None,
            &None,
        );
        visual.add_edge(arrow, *from, *to);
    }
    let simple = placement == Placement::Simple;
    visual.do_it(false, simple, simple, &mut canvas);
    canvas.finish()
}

/// The lines of a label, with blank ones between them for their height.
fn spread(lines: &[String]) -> String {
    lines.join("\n\n")
}
