//! Panics of user code as errors, with the place where they happened.

use tidegate_protocol::{Error, Result};

thread_local! {
    /// The location of the last panic of this thread; the payload does not contain it.
    static PANICKED_AT: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Installs a hook that remembers the location of panics in this process; with `RUST_BACKTRACE` they are printed as usual,
/// too.
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

/// Runs code that may call user code; a panic becomes an error.
pub(crate) fn catch<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| Err(Error::job(panic_text(&*panic))))
}

/// The same for the function that describes a job. An error that it returns is complete by itself; a panic needs to name
/// the function.
pub(crate) fn catch_in_build<R>(build: impl FnOnce() -> Result<R>) -> Result<R> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build));
    let panicked = |text| Error::job(text).context("the function that describes the job");
    result.unwrap_or_else(|panic| Err(panicked(panic_text(&*panic))))
}

/// Runs user code while a panic may be in progress already, which stays the one that is reported; None if the code panics
/// too.
pub(crate) fn on_the_way<R>(work: impl FnOnce() -> R) -> Option<R> {
    let place = PANICKED_AT.with_borrow_mut(Option::take);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok();
    PANICKED_AT.with_borrow_mut(|at| *at = place);
    result
}

/// The message of a caught panic, and its location.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = message(payload).unwrap_or("no message");
    match PANICKED_AT.with_borrow_mut(Option::take) {
        Some(place) => format!("panicked at {place}: {text}"),
        None => format!("panicked: {text}"),
    }
}

/// The message of a panic alone.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}
