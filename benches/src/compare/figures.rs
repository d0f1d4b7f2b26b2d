//! Figures of several runs.

use serde::Serialize;

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these; none if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { min, median, max })
    }

    /// `min / median / max`.
    #[must_use]
    pub fn shown(&self, digits: usize) -> String {
        format!(
            "{:.digits$} / **{:.digits$}** / {:.digits$}",
            self.min, self.median, self.max
        )
    }
}

/// How a figure stands to its bar.
#[must_use]
pub fn verdict(value: f64, bar: Option<(f64, f64)>) -> &'static str {
    match bar {
        Some((_, aim)) if value >= aim => "aim",
        Some((must, _)) if value >= must => "must",
        Some(_) => "missed",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert!(Spread::of([]).is_none());
        assert_eq!(verdict(1.2, Some((1.0, 1.7))), "must");
        assert_eq!(verdict(0.9, Some((1.0, 1.7))), "missed");
    }
}
