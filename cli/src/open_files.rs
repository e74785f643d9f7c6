//! How many files this process may have open, connections included.

use tidegate_jobmanager::settings::ConnectionLimits;

/// What a jobmanager needs beside connections: its ledger, its log, files of the checkpoint store.
const OTHERS: u64 = 192;

/// Raises the limit as far as the system allows without privileges, and lowers the number of connections if that is not
/// enough for them.
pub(crate) fn make_room(limits: ConnectionLimits) -> ConnectionLimits {
    let Some(files) = raise() else { return limits };
    let room = usize::try_from(files.saturating_sub(OTHERS).max(16)).unwrap_or(usize::MAX);
    if room >= limits.total {
        return limits;
    }
    tracing::warn!(
        target: "tidegate",
        "this process may have {files} files open, too few for {} connections (limits.connections): it accepts {room}. Raise \
         the limit, by LimitNOFILE in its unit or 'ulimit -Hn'",
        limits.total
    );
    let strangers = limits.strangers.min(room / 2);
    let strangers_per_address = limits.strangers_per_address.min(strangers);
    ConnectionLimits { total: room, strangers, strangers_per_address, ..limits }
}

/// Returns the new limit; None if the system does not say.
fn raise() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value that lives as long as the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: as above.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    Some(if is_raised { raised.rlim_cur } else { limit.rlim_cur })
}
