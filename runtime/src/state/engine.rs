//! The options of RocksDB: small buffers, because memory belongs to the tables, and bloom filters, because most reads are
//! for keys that do not exist.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, Env, Options,
    UniversalCompactOptions,
};

use super::budget::Shares;
use tidegate_protocol::{Error, Result};

/// Sorted runs that a read may have to look into before some are merged.
const RUNS: i32 = 8;

/// Sorted runs from which on changes and snapshots wait for a merge.
const RUNS_UNTIL_SLOW: i32 = 250;

pub(crate) fn open_db(options: &Options, path: &Path) -> Result<DB> {
    DB::open(options, path)
        .map_err(|e| Error::environment(format!("open the state store {}", path.display())).caused_by(e))
}

/// Lets so many workers of this process flush at the same time, each for its snapshot, and a merge of a few runs go on while
/// every worker merges all of its own. All stores of a process share the threads of RocksDB; by itself it starts as many as one
/// store may use.
pub(crate) fn set_threads(workers: usize) -> Result<()> {
    let mut env = Env::new().map_err(|e| Error::environment("start the threads of RocksDB").caused_by(e))?;
    let workers = i32::try_from(workers).unwrap_or(i32::MAX - 1);
    env.set_high_priority_background_threads(workers);
    env.set_low_priority_background_threads(workers + 1);
    Ok(())
}

/// Opens a store to be read, and changes nothing in it.
pub(crate) fn open_db_to_read(options: &Options, path: &Path) -> Result<DB> {
    DB::open_for_read_only(options, path, false)
        .map_err(|e| Error::environment(format!("read the state store {}", path.display())).caused_by(e))
}

/// Options for the store of one worker.
pub(crate) fn options(shares: Shares) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(shares.block_cache));
    blocks.set_bloom_filter(10.0, false);
    // Partitioned filters and indexes: an unpartitioned one is larger than a block that a cache of this size accepts, and
    // would be read from the file again for every key.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    // A flush, and more than one merge: runs of a few barriers are merged while a merge of everything, which takes seconds, is
    // under way.
    options.set_max_background_jobs(4);
    // Files that compaction writes are new files in the next snapshot. Merging runs of similar size rewrites a row a few
    // times in all; leveled compaction rewrites a level every few barriers.
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&runs());
    options.set_level_zero_file_num_compaction_trigger(RUNS);
    // A snapshot flushes, and RocksDB delays a flush while there are more runs than this: no checkpoint would be completed
    // until a merge of everything is done. Every barrier adds a run; more of them make reads slower, and nothing else.
    options.set_level_zero_slowdown_writes_trigger(RUNS_UNTIL_SLOW);
    options.set_level_zero_stop_writes_trigger(2 * RUNS_UNTIL_SLOW);
    options.set_write_buffer_size(shares.write_buffer);
    // The number of bytes that are read at once from every run that is merged; 2 MB by default.
    options.set_compaction_readahead_size(256 << 10);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(1);
    options.set_log_level(rocksdb::LogLevel::Warn);
    // Readers are worker threads: obsolete files are deleted by background threads instead.
    options.set_avoid_unnecessary_blocking_io(true);
    // A running store is of no use after its attempt: closing it must not write what no snapshot has asked for.
    options.get_options_from_string("avoid_flush_during_shutdown=true").unwrap_or(options)
}

fn runs() -> UniversalCompactOptions {
    let mut runs = UniversalCompactOptions::default();
    runs.set_size_ratio(30);
    runs.set_min_merge_width(3);
    // Half of what is on disk may be out of date.
    runs.set_max_size_amplification_percent(100);
    runs
}
