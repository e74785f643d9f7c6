//! Panics of user code as errors, with the place where they happened.

use tidegate_protocol::{Error, Result};

thread_local! {
    /// Where the last panic of this thread was; the payload does not know.
    static PANICKED_AT: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Has panics of this process remembered with their place; with `RUST_BACKTRACE` they are printed as usual, too.
pub(crate) fn remember_panics() {
    let verbose = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string);
        PANICKED_AT.with_borrow_mut(|at| *at = place);
        if verbose {
            usual(info);
        }
    }));
}

/// Runs code that may call a user's; a panic becomes an error.
pub(crate) fn catch<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| Err(Error::job(panic_text(&*panic))))
}

/// The same for the function that describes a job. An error of its own says by itself what is wrong; a panic has to say what it
/// happened in.
pub(crate) fn catch_in_build<R>(build: impl FnOnce() -> Result<R>) -> Result<R> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build));
    let panicked = |text| Error::job(text).context("the function that describes the job");
    result.unwrap_or_else(|panic| Err(panicked(panic_text(&*panic))))
}

/// Runs code of a user while a panic may be on its way already, which stays the one that is reported; None if it panics too.
pub(crate) fn on_the_way<R>(work: impl FnOnce() -> R) -> Option<R> {
    let place = PANICKED_AT.with_borrow_mut(Option::take);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok();
    PANICKED_AT.with_borrow_mut(|at| *at = place);
    result
}

/// What a caught panic said, and where.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    match PANICKED_AT.with_borrow_mut(Option::take) {
        Some(place) => format!("panicked at {place}: {text}"),
        None => format!("panicked: {text}"),
    }
}
