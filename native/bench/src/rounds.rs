//! Interleaved measurements, their medians and their spread.

use serde::Serialize;

/// One way of doing a thing; all ways of a case are measured in turn, round after round.
pub struct Way<'a> {
    pub name: String,
    pub measure: Box<dyn FnMut() -> anyhow::Result<f64> + 'a>,
}

/// What one way came to.
#[derive(Serialize)]
pub struct Series {
    pub way: String,
    #[serde(flatten)]
    pub spread: Spread,
    pub samples: Vec<f64>,
}

/// Ours divided by another way, pair by pair.
#[derive(Serialize)]
pub struct Ratio {
    pub over: String,
    #[serde(flatten)]
    pub spread: Spread,
}

#[derive(Serialize)]
pub struct Case {
    pub name: String,
    pub unit: &'static str,
    pub series: Vec<Series>,
    pub ratios: Vec<Ratio>,
}

/// Median, quartiles and extremes.
#[derive(Serialize, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub min: f64,
    pub max: f64,
}

/// Measures all ways in turn `rounds` times after one round that is thrown away. The last way is ours.
pub fn interleave(
    name: &str,
    unit: &'static str,
    rounds: usize,
    mut ways: Vec<Way<'_>>,
) -> anyhow::Result<Case> {
    let mut samples = vec![Vec::with_capacity(rounds); ways.len()];
    for round in 0..=rounds {
        for (way, samples) in ways.iter_mut().zip(&mut samples) {
            let sample = (way.measure)()?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    let ours = samples.last().cloned().unwrap_or_default();
    let series: Vec<Series> = ways
        .into_iter()
        .zip(samples)
        .map(|(way, samples)| Series { way: way.name, spread: Spread::of(&samples), samples })
        .collect();
    let ratios = series[..series.len().saturating_sub(1)]
        .iter()
        .map(|other| {
            let pairs: Vec<f64> = ours.iter().zip(&other.samples).map(|(ours, other)| ours / other).collect();
            Ratio { over: other.way.clone(), spread: Spread::of(&pairs) }
        })
        .collect();
    Ok(Case { name: name.to_owned(), unit, series, ratios })
}

impl Spread {
    pub fn of(samples: &[f64]) -> Spread {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let last = sorted.len().saturating_sub(1);
            let (below, rest) = (last * quarters / 4, last * quarters % 4);
            let above = (below + 1).min(last);
            let weight = [0.0, 0.25, 0.5, 0.75][rest];
            sorted.get(below).map_or(f64::NAN, |low| low + (sorted[above] - low) * weight)
        };
        Spread { median: at(2), low: at(1), high: at(3), min: at(0), max: at(4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_and_the_quartiles() {
        let spread = Spread::of(&[9.0, 1.0, 5.0, 3.0, 7.0]);
        assert_eq!(
            [spread.min, spread.low, spread.median, spread.high, spread.max],
            [1.0, 3.0, 5.0, 7.0, 9.0]
        );
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn ways_alternate_and_ratios_are_taken_pair_by_pair() {
        let order = std::cell::RefCell::new(Vec::new());
        let way = |name: &str, samples: [f64; 4]| {
            let (name, order, mut samples) = (name.to_owned(), &order, samples.into_iter());
            let said = name.clone();
            let measure = move || {
                order.borrow_mut().push(said.clone());
                Ok(samples.next().unwrap_or(f64::NAN))
            };
            Way { name, measure: Box::new(measure) }
        };
        let ways = vec![way("raw", [0.0, 1.0, 2.0, 4.0]), way("cuda", [0.0, 2.0, 2.0, 2.0])];
        let case = interleave("case", "ns", 3, ways).expect("measured");
        assert_eq!(order.borrow().join(" "), "raw cuda raw cuda raw cuda raw cuda");
        assert_eq!(case.ratios[0].spread.median, 1.0);
        assert_eq!(case.ratios[0].spread.max, 2.0);
    }
}
