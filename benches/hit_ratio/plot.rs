//! Hit ratio over size, a line for each policy and a chart for each trace.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::{Run, name};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 480;

pub fn draw(file: &Path, runs: &[Run]) -> Result<()> {
    let traces: Vec<&[Run]> = runs.chunk_by(|one, other| one.trace == other.trace).collect();
    let height = HEIGHT * u32::try_from(traces.len())?;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        for (area, runs) in root.split_evenly((traces.len(), 1)).iter().zip(traces) {
            chart(area, runs)?;
        }
        root.present().map_err(drawing)?;
    }
    std::fs::write(file, svg)?;
    Ok(())
}

fn chart(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, runs: &[Run]) -> Result<()> {
    let sizes = runs.iter().map(|run| run.capacity.amount as f64);
    let (least, most) = sizes.fold((f64::MAX, 0.0), |(least, most), size| (least.min(size), f64::max(most, size)));
    let unit = match runs[0].capacity.unit {
        peercache_replay::Unit::Entries => "entries",
        peercache_replay::Unit::Bytes => "bytes of key and value",
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&runs[0].trace, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        // One size alone has a line as well, of no length.
        .build_cartesian_2d((least..f64::max(most, least * 1.01)).log_scale(), 0.0..100.0)
        .map_err(drawing)?;
    chart.configure_mesh().x_desc(unit).y_desc("hit ratio, %").draw().map_err(drawing)?;
    let mut policies: Vec<_> = runs.iter().map(|run| run.policy).collect();
    policies.dedup();
    let mut seen = Vec::new();
    policies.retain(|policy| {
        !seen.contains(policy) && {
            seen.push(*policy);
            true
        }
    });
    for (index, policy) in policies.into_iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let mut points: Vec<(f64, f64)> = runs
            .iter()
            .filter(|run| run.policy == policy)
            .map(|run| (run.capacity.amount as f64, 100.0 * run.counts.hit_ratio()))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(drawing)?;
        let line = chart.draw_series(LineSeries::new(points, color.stroke_width(2))).map_err(drawing)?;
        line.label(name(policy)).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    let labels = chart.configure_series_labels().border_style(BLACK).background_style(WHITE.mix(0.8)).draw();
    labels.map_err(drawing)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
