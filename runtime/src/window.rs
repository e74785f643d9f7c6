//! What a window is, and what is computed over one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stretch of time, from `start` up to but not including `end` (milliseconds since the Unix epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first millisecond of the window.
    pub start: i64,
    /// The first millisecond after it.
    pub end: i64,
}

/// The result of one window of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Windowed<K, V> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The result of the aggregate over the window's records. The event time of the emitted record is `window.end - 1`.
    pub value: V,
}

/// Windows of one size that do not overlap, aligned to the Unix epoch.
///
/// ```
/// use std::time::Duration;
/// use tidegate::aggregates::Count;
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Tumbling, Watermarks};
///
/// let out = collect(|job| {
///     let times = job.source("times", VecSource::of([0, 999, 1_000])).event_time(|t| *t, Watermarks::monotonous());
///     let windows = times.key_by_value(|_| 0u8).window(Tumbling::of(Duration::from_secs(1)));
///     Ok(windows.aggregate("count", Count).map(|w| (w.window.start, w.value)))
/// })?;
/// assert_eq!(out, [(0, 2), (1_000, 1)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Tumbling;

impl Tumbling {
    /// Windows of event time; see the example of [`Tumbling`].
    pub fn of(size: Duration) -> Windows {
        Sliding::of(size, size)
    }

    /// Windows of processing time: a record belongs to the window in which it is processed.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::Tumbling;
    /// use tidegate::aggregates::Count;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    ///
    /// let (words, out, clock) = (TestSource::new(1), VecSink::new(), Arc::new(ManualClock::at(60_000)));
    /// let (source, sink) = (words.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let words = job.source("words", source.clone()).key_by(|word: &String| word);
    ///     let minutes = words.window(Tumbling::of_processing_time(Duration::from_secs(60)));
    ///     minutes.aggregate("count", Count).map(|w| (w.window.start, w.value)).sink("out", sink.clone());
    ///     Ok(())
    /// })
    /// .clock(clock.clone());
    /// let running = job.start();
    /// words.extend(0, ["tide".to_owned(), "tide".to_owned()]);
    /// running.checkpoint();
    /// clock.advance_ms(60_000);
    /// assert_eq!(out.wait_for(1), [(60_000, 2)]);
    /// running.stop()?;
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn of_processing_time(size: Duration) -> Windows {
        Sliding::of_processing_time(size, size)
    }
}

/// Windows of one size that begin every `slide`, aligned to the Unix epoch; a record belongs to all that cover it.
///
/// ```
/// use std::time::Duration;
/// use tidegate::aggregates::Count;
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Sliding, Watermarks};
///
/// let out = collect(|job| {
///     let times = job.source("times", VecSource::of([1_500])).event_time(|t| *t, Watermarks::monotonous());
///     let windows = Sliding::of(Duration::from_secs(2), Duration::from_secs(1));
///     let windows = times.key_by_value(|_| 0u8).window(windows);
///     Ok(windows.aggregate("count", Count).map(|w| (w.window.start, w.value)))
/// })?;
/// assert_eq!(out, [(0, 1), (1_000, 1)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sliding;

impl Sliding {
    /// Windows of event time, of which one begins every `slide`; see the example of [`Sliding`]. The slide
    /// is at most the size, or the job is refused: a record between two windows would belong to none.
    pub fn of(size: Duration, slide: Duration) -> Windows {
        Windows::new(size, slide, false)
    }

    /// Windows of processing time: a record belongs to the windows in which it is processed.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::Sliding;
    /// use tidegate::aggregates::Count;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    ///
    /// let (words, out, clock) = (TestSource::new(1), VecSink::new(), Arc::new(ManualClock::at(70_000)));
    /// let (source, sink) = (words.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let words = job.source("words", source.clone()).key_by(|word: &String| word);
    ///     let windows = Sliding::of_processing_time(Duration::from_secs(60), Duration::from_secs(30));
    ///     words.window(windows).aggregate("count", Count).map(|w| (w.window.start, w.value)).sink("out", sink.clone());
    ///     Ok(())
    /// })
    /// .clock(clock.clone());
    /// let running = job.start();
    /// words.push(0, "tide".to_owned());
    /// running.checkpoint();
    /// clock.advance_ms(50_000);
    /// assert_eq!(out.wait_for(2), [(30_000, 1), (60_000, 1)]);
    /// running.stop()?;
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn of_processing_time(size: Duration, slide: Duration) -> Windows {
        Windows::new(size, slide, true)
    }
}

/// The event time of a record that has none; no window begins at it.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// The largest size of a window: a thousand years.
const LARGEST_MS: i64 = 1_000 * 366 * 24 * 3_600 * 1_000;

/// The last time that a window can contain. A time one millisecond later counts as this one.
const LAST_TIME: i64 = i64::MAX - 1;

/// Windows that a record can be in. Each has a table of its own, and a record goes through all of them.
const MOST_AT_ONCE: i64 = 100_000;

/// How records are assigned to windows; made by [`Tumbling`] and [`Sliding`].
///
/// Size and slide are whole milliseconds, from one to a thousand years, and a record is in at most 100,000 windows. A job
/// with any others is refused before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub(crate) size_ms: i64,
    pub(crate) slide_ms: i64,
    pub(crate) processing_time: bool,
    /// Size and slide as they were given, for messages.
    given: (Duration, Duration),
}

impl Windows {
    fn new(size: Duration, slide: Duration, processing_time: bool) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self { size_ms: millis(size), slide_ms: millis(slide), processing_time, given: (size, slide) }
    }

    /// What is wrong with the sizes, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let (size, slide) = (self.size_ms, self.slide_ms);
        let (given_size, given_slide) = self.given;
        let are_whole = [given_size, given_slide].iter().all(|time| time.subsec_nanos() % 1_000_000 == 0);
        if size < 1 || slide < 1 || slide > size || size > LARGEST_MS || !are_whole {
            return Some(format!(
                "windows of {given_size:?} every {given_slide:?} are invalid: both must be whole milliseconds, at least 1 ms, \
                 the slide at most the size, and the size at most {LARGEST_MS} ms"
            ));
        }
        let windows = (size + slide - 1) / slide;
        (windows > MOST_AT_ONCE).then(|| {
            format!(
                "with windows of {given_size:?} every {given_slide:?} each record is in {windows} windows; at most {MOST_AT_ONCE} are \
                 possible: choose a longer slide"
            )
        })
    }

    /// The start of the last window that covers `time`.
    ///
    /// Every time has one, including those near the limits of `i64`, for which a timer may have been set: the first window
    /// begins after [`NO_TIME`] and the last one ends at `i64::MAX`; they are shortened if necessary.
    #[inline]
    pub(crate) fn last_start(&self, time: i64) -> i64 {
        let time = time.min(LAST_TIME);
        let first = time.min(NO_TIME + 1);
        time.saturating_sub(time.rem_euclid(self.slide_ms)).max(first)
    }

    /// The starts of all windows that cover `time`, the last first.
    #[inline]
    pub(crate) fn starts(&self, time: i64) -> impl Iterator<Item = i64> + use<> {
        let (time, size, slide) = (time.min(LAST_TIME), self.size_ms as u64, self.slide_ms);
        let earlier = move |start: &i64| start.checked_sub(slide).filter(|start| *start > NO_TIME);
        std::iter::successors(Some(self.last_start(time)), earlier)
            .take_while(move |start| time.abs_diff(*start) < size)
    }

    /// The slice of time that `time` is in: all times that are in the same windows. It is identified by the starts of the
    /// first and the last of these windows.
    #[inline]
    pub(crate) fn slice(&self, time: i64) -> Slice {
        if self.processing_time {
            return Slice::default(); // the window is that in which the record is processed
        }
        let last = self.last_start(time);
        let first =
            if self.size_ms == self.slide_ms { last } else { self.starts(time).last().unwrap_or(last) };
        Slice { first, last }
    }

    /// The window that begins at `start`.
    pub(crate) fn window(&self, start: i64) -> Window {
        Window { start, end: start.saturating_add(self.size_ms) }
    }
}

/// See [`Windows::slice`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The start of the first window.
    pub(crate) first: i64,
    /// The start of the last window.
    pub(crate) last: i64,
}

impl std::fmt::Display for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |ms: i64| Duration::from_millis(ms.max(0) as u64);
        let time = if self.processing_time { "processing time" } else { "event time" };
        if self.size_ms == self.slide_ms {
            return write!(f, "tumbling windows of {:?} of {time}", ms(self.size_ms));
        }
        write!(f, "sliding windows of {:?} every {:?} of {time}", ms(self.size_ms), ms(self.slide_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_ms(size: i64, slide: i64) -> Windows {
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        Sliding::of(ms(size), ms(slide))
    }

    #[test]
    fn sizes_that_no_window_can_have_are_refused() {
        let ms = Duration::from_millis;
        let problem = |size, slide| Sliding::of(size, slide).problem().unwrap_or_default();
        assert_eq!(problem(ms(10), ms(3)), "");
        assert_eq!(problem(ms(100_000), ms(1)), "");
        assert!(
            problem(Duration::from_micros(1_500), Duration::from_micros(1_500))
                .contains("windows of 1.5ms every 1.5ms are invalid: both must be whole milliseconds")
        );
        assert!(problem(ms(10), Duration::from_micros(2_500)).contains("whole milliseconds"));
        assert!(problem(Duration::MAX, Duration::MAX).contains("at most 31622400000000 ms"));
        assert!(
            problem(ms(86_400_000), ms(1)).contains("each record is in 86400000 windows; at most 100000")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_time_is_in_all_of_its_windows_and_in_no_other(
            time in -1_000_000i64..1_000_000, slide in 1i64..500, times in 1i64..6
        ) {
            let windows = of_ms(slide * times, slide);
            let starts: Vec<i64> = windows.starts(time).collect();
            prop_assert_eq!(starts.len() as i64, times);
            for start in starts {
                prop_assert_eq!(start.rem_euclid(slide), 0);
                let window = windows.window(start);
                prop_assert!(window.start <= time && time < window.end);
            }
        }

        #[test]
        fn any_time_is_in_a_window_and_in_no_more_than_there_are(
            time in prop_oneof![any::<i64>(), Just(i64::MAX), i64::MIN + 1..i64::MIN + 5_000, i64::MAX - 5_000..i64::MAX],
            slide in prop_oneof![1i64..500, Just(LARGEST_MS / 5)],
            times in 1i64..6,
        ) {
            let windows = of_ms(slide * times, slide);
            let starts: Vec<i64> = windows.starts(time).take(100).collect();
            prop_assert!((1..=times).contains(&(starts.len() as i64)), "{} windows", starts.len());
            prop_assert_eq!(starts[0], windows.last_start(time));
            for start in starts {
                let window = windows.window(start);
                prop_assert!(window.start <= time && window.start < window.end);
                prop_assert!(time < window.end || window.end == i64::MAX);
                prop_assert!(start > NO_TIME, "that start stands for a record without event time");
            }
        }

        #[test]
        fn times_of_one_slice_are_in_the_same_windows(
            a in prop_oneof![-2_000i64..2_000, i64::MIN + 1..i64::MIN + 3_000, i64::MAX - 3_000..i64::MAX],
            between in 0i64..700, slide in 1i64..300, size in 0i64..900
        ) {
            let windows = of_ms(slide + size, slide);
            let b = a.saturating_add(between);
            let starts = |time: i64| windows.starts(time).collect::<Vec<_>>();
            prop_assert_eq!(windows.slice(a) == windows.slice(b), starts(a) == starts(b));
        }

        #[test]
        fn tumbling_windows_cover_time_without_overlap(time in any::<i32>(), size in 1i64..1_000_000) {
            let windows = of_ms(size, size);
            let time = i64::from(time);
            prop_assert_eq!(windows.starts(time).count(), 1);
            let window = windows.window(windows.last_start(time));
            prop_assert_eq!(windows.last_start(window.end), window.end);
            prop_assert_eq!(windows.last_start(window.end - 1), window.start);
        }
    }
}
