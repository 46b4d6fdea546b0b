//! The plots, as SVG. White behind them, so that they can be read on dark pages, too.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::peers::Name;
use crate::recovery::{BEFORE, BIN};
use crate::results::Results;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: (&str, u32) = ("sans-serif", 14);
const TITLE: (&str, u32) = ("sans-serif", 18);

pub(super) fn draw(results: &Results, directory: &Path) -> Drawn {
    throughput(results, &directory.join("throughput.svg"))?;
    latency(results, &directory.join("latency.svg"))?;
    restart(results, &directory.join("restart.svg"))
}

fn color(name: Name) -> RGBColor {
    match name {
        Name::Steadfast => RGBColor(200, 30, 30),
        Name::Rawpipe => RGBColor(40, 40, 40),
        Name::Raw1 => RGBColor(150, 150, 150),
        Name::Blocking => RGBColor(200, 170, 90),
        Name::Bb8 => RGBColor(30, 110, 190),
        Name::Deadpool => RGBColor(90, 180, 230),
        Name::Tarpc => RGBColor(40, 150, 90),
        Name::Tonic => RGBColor(140, 200, 120),
        Name::Redis => RGBColor(150, 90, 180),
        Name::Naive => RGBColor(150, 110, 60),
    }
}

/// The one that this is about stands out.
fn style(name: Name) -> ShapeStyle {
    color(name).stroke_width(if name == Name::Steadfast { 3 } else { 2 })
}

/// A line that stands for one of those compared.
struct Line {
    name: Name,
    points: Vec<(f64, f64)>,
}

/// Both axes.
struct Axes<'a> {
    title: &'a str,
    x: (&'a str, std::ops::Range<f64>),
    y: (&'a str, std::ops::Range<f64>),
    x_ticks: &'a [f64],
    x_text: fn(&f64) -> String,
}

/// The vertical axis is logarithmic; the horizontal one is what its points make of it.
fn lines(path: &Path, axes: &Axes<'_>, lines: &[Line]) -> Drawn {
    let area = SVGBackend::new(path, (860, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, TITLE)
        .margin(12)
        .margin_right(120)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(axes.x.1.clone(), axes.y.1.clone().log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(axes.x.0)
        .y_desc(axes.y.0)
        .x_labels(0)
        .y_label_formatter(&|value| super::tables::short(*value))
        .label_style(FONT)
        .draw()?;
    // The first is drawn last, above the others.
    for line in lines.iter().rev() {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style(line.name)))?;
    }
    ticks(&area, axes, |point| chart.backend_coord(&point))?;
    labels(&area, lines, |point| chart.backend_coord(&point))?;
    area.present()?;
    Ok(())
}

/// What stands below the horizontal axis.
fn ticks(area: &Area<'_>, axes: &Axes<'_>, place: impl Fn((f64, f64)) -> (i32, i32)) -> Drawn {
    let centre = Pos::new(HPos::Center, VPos::Top);
    for at in axes.x_ticks {
        let (x, y) = place((*at, axes.y.1.start));
        let font = FONT.into_font().into_text_style(area).pos(centre);
        area.draw(&PathElement::new([(x, y), (x, y + 5)], BLACK))?;
        area.draw(&Text::new((axes.x_text)(at), (x, y + 8), font))?;
    }
    Ok(())
}

/// Names at the right ends of the lines, moved apart where they would lie on one another.
fn labels(area: &Area<'_>, lines: &[Line], place: impl Fn((f64, f64)) -> (i32, i32)) -> Drawn {
    const HEIGHT: i32 = 16;
    let ends = lines.iter().filter_map(|line| Some((line.name, place(*line.points.last()?))));
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by_key(|(_, (_, y))| *y);
    let mut free = i32::MIN;
    for (name, (x, y)) in ends {
        let y = free.max(y - HEIGHT / 2);
        free = y + HEIGHT;
        let font = FONT.into_font().color(&color(name));
        area.draw(&Text::new(name.as_str(), (x + 8, y), font))?;
    }
    Ok(())
}

fn throughput(results: &Results, path: &Path) -> Drawn {
    const CALLERS: [usize; 5] = [1, 8, 64, 256, 1024];
    let all = Name::ALL.into_iter().filter(|name| name.takes(2));
    let all = all.map(|name| {
        let points = CALLERS.iter().filter_map(|callers| {
            Some(((*callers as f64).log2(), results.row(name, 64, *callers)?.rate()))
        });
        Line { name, points: points.collect() }
    });
    let axes = Axes {
        title: "Calls a second over the number of callers, 64 B",
        x: ("callers", 0.0..10.0),
        y: ("calls a second", 3e3..5e6),
        x_ticks: &[0.0, 3.0, 6.0, 8.0, 10.0],
        x_text: |exponent| exponent.exp2().to_string(),
    };
    lines(path, &axes, &all.collect::<Vec<_>>())
}

fn latency(results: &Results, path: &Path) -> Drawn {
    /// Up to this quantile there are samples enough.
    const LAST: f64 = 0.9991;
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let all = Name::ALL.into_iter().filter_map(|name| {
        let row = results.row(name, 64, 64)?;
        let quantiles = row.samples.first()?.latencies.iter().map(|(quantile, _)| *quantile);
        let points = quantiles
            .filter(|quantile| *quantile <= LAST)
            .map(|quantile| (nines(quantile), row.median(|sample| sample.quantile(quantile))));
        Some(Line { name, points: points.collect() })
    });
    let axes = Axes {
        title: "Latency of a call, 64 callers, 64 B",
        x: ("of all calls, %", 0.0..3.0),
        y: ("µs", 10.0..1e5),
        x_ticks: &[0.0, std::f64::consts::LOG10_2, 1.0, 2.0, 3.0],
        x_text: |nines| {
            let percent = 100.0 - 100.0 * 0.1_f64.powf(*nines);
            format!("{}", (percent * 10.0).round() / 10.0)
        },
    };
    lines(path, &axes, &all.collect::<Vec<_>>())
}

/// One below the other, each to its own throughput before the kill.
fn restart(results: &Results, path: &Path) -> Drawn {
    const NAMES: [Name; 4] = [Name::Steadfast, Name::Naive, Name::Bb8, Name::Redis];
    let shown = NAMES.iter().filter_map(|name| {
        let recovery = results.recovery.iter().find(|recovery| recovery.name == *name)?;
        Some((*name, recovery.typical()?))
    });
    let shown: Vec<_> = shown.collect();
    let area = SVGBackend::new(path, (860, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let area =
        area.titled("Throughput around a server's restart, each to its own before", TITLE)?;
    let last = shown.len().saturating_sub(1);
    let heights = (1..=last).map(|panel| panel as i32 * 122).collect::<Vec<_>>();
    let panels = area.split_by_breakpoints::<i32, i32, _, _>([], heights);
    for (number, ((name, restart), panel)) in shown.iter().zip(panels).enumerate() {
        let axis = if number == last { Axis::Labelled } else { Axis::Bare };
        timeline(&panel, *name, restart, axis)?;
    }
    area.present()?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Labelled,
    Bare,
}

fn timeline(area: &Area<'_>, name: Name, restart: &crate::recovery::Restart, axis: Axis) -> Drawn {
    const FROM: f64 = -200.0;
    const TO: f64 = 1400.0;
    /// There is room for a line of text above what is usual.
    const HIGHEST: f64 = 190.0;
    let before = BEFORE.as_secs_f64() * 1e3;
    let bin = BIN.as_secs_f64() * 1e3;
    let kill = (before / bin) as usize;
    let usual = crate::rounds::median(&restart.rates[..kill.min(restart.rates.len())]);
    let points =
        restart.rates.iter().enumerate().map(|(number, rate)| {
            (number as f64 * bin - before, (100.0 * rate / usual).min(150.0))
        });
    let mut points: Vec<_> = points.filter(|(at, _)| (FROM..TO).contains(at)).collect();
    let end = points.last().map_or(FROM, |(at, _)| *at);
    points.extend((end < TO - bin).then_some([(end + bin, 0.0), (TO, 0.0)]).into_iter().flatten());
    let mut chart = ChartBuilder::on(area)
        .margin_left(12)
        .margin_right(16)
        .margin_top(6)
        .x_label_area_size(if axis == Axis::Labelled { 44 } else { 6 })
        .y_label_area_size(60)
        .build_cartesian_2d(FROM..TO, 0.0..HIGHEST)?;
    chart.draw_series([Rectangle::new(
        [(0.0, 0.0), (restart.down, HIGHEST)],
        RGBColor(238, 238, 238).filled(),
    )])?;
    let labels = if axis == Axis::Labelled { 9 } else { 0 };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(labels)
        .y_labels(4)
        .x_desc(if axis == Axis::Labelled { "ms since the kill; grey: nobody listens" } else { "" })
        .x_label_formatter(&|millis| format!("{millis:.0}"))
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .label_style(FONT)
        .draw()?;
    chart.draw_series(
        AreaSeries::new(points, 0.0, color(name).mix(0.35)).border_style(color(name)),
    )?;
    let text =
        format!("{name}: {} errors, first answer after {:.0} ms", restart.errors, restart.first);
    let font = FONT.into_font().color(&color(name));
    chart.draw_series([Text::new(text, (350.0, 182.0), font)])?;
    Ok(())
}
