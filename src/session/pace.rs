//! How fast a frame that has begun must go on (FORMATS 4).

use std::time::Duration;

use crate::limits;

/// The peer lets a frame come more slowly than any line that is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame that came at less than {} bytes a second", limits::FRAME_BYTES_PER_SECOND_MIN)]
pub struct TooSlow;

/// Measures one connection: while a frame is unfinished, each stretch of
/// [`limits::FRAME_PACE_OVER`] brings its share of bytes or ends a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Since when bytes are counted, and how many came; `None` between frames.
    stretch: Option<(Duration, u64)>,
}

impl Pace {
    /// Counts `bytes` that came at `now`, or none where [`Pace::due`] has come. `ended` says whether they ended
    /// a frame, `is_mid_frame` whether another has begun.
    ///
    /// # Errors
    /// [`TooSlow`]: the connection is to be closed.
    pub fn count(
        &mut self,
        bytes: u64,
        ended: bool,
        is_mid_frame: bool,
        now: Duration,
    ) -> Result<(), TooSlow> {
        let stretch = self.stretch.filter(|_| is_mid_frame && !ended);
        let (since, before) = stretch.unwrap_or((now, 0));
        let came = before + bytes;
        let is_over = now >= since + limits::FRAME_PACE_OVER;
        if is_over && came < limits::FRAME_BYTES_PER_SECOND_MIN * limits::FRAME_PACE_OVER.as_secs() {
            return Err(TooSlow);
        }
        self.stretch = is_mid_frame.then_some(if is_over { (now, 0) } else { (since, came) });
        Ok(())
    }

    /// When to count although nothing came.
    pub fn due(&self) -> Option<Duration> {
        self.stretch.map(|(since, _)| since + limits::FRAME_PACE_OVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Bytes of one unfinished frame, one lot a second, until the pace is too slow or `seconds` have gone by.
    fn drip(bytes_each: u64, every: u32, seconds: u32) -> Result<(), TooSlow> {
        let mut pace = Pace::default();
        (0..seconds).try_for_each(|second| {
            let bytes = if second % every == 0 { bytes_each } else { 0 };
            if bytes > 0 || pace.due().is_some_and(|due| due <= second * SECOND) {
                pace.count(bytes, false, true, second * SECOND)?;
            }
            Ok(())
        })
    }

    #[test]
    fn a_byte_every_ten_seconds_is_too_slow_after_half_a_minute() {
        assert_eq!(drip(1, 10, 30), Ok(()));
        assert_eq!(drip(1, 10, 31), Err(TooSlow));
    }

    #[test]
    fn five_hundred_and_twelve_bytes_a_second_are_enough_also_in_bursts() {
        assert_eq!(drip(520, 1, 600), Ok(()));
        assert_eq!(drip(520 * 10, 10, 600), Ok(()));
        assert_eq!(drip(500, 1, 600), Err(TooSlow));
    }

    #[test]
    fn a_frame_that_stops_is_due_without_a_further_byte() {
        let mut pace = Pace::default();
        assert_eq!(pace.count(1, false, true, SECOND), Ok(()));
        assert_eq!(pace.due(), Some(31 * SECOND));
        assert_eq!(pace.count(0, false, true, 31 * SECOND), Err(TooSlow));
    }

    #[test]
    fn between_frames_and_with_each_frame_that_ends_nothing_is_due() {
        let mut pace = Pace::default();
        assert_eq!(pace.count(100, true, false, SECOND), Ok(()));
        assert_eq!(pace.due(), None);
        for second in 0..300 {
            // Small frames, each read in the middle of the next one.
            assert_eq!(pace.count(10, true, true, second * SECOND), Ok(()));
            assert_eq!(pace.due(), Some((second + 30) * SECOND));
        }
    }
}
