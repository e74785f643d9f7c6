//! Which job is meant by a text: its id, the beginning of its id, or its name.

use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::JobSummary;

use crate::output::{Table, utc};

/// The job that a text means. A name comes before the beginning of an id. Of several jobs, the only one that is not over is
/// meant; if all of one name are over, the one that was submitted last, as a job is after it was stopped and started again.
pub(super) fn choose(jobs: &[JobSummary], text: &str) -> Result<JobId> {
    let by_name: Vec<&JobSummary> = jobs.iter().filter(|job| job.name == text).collect();
    let by_id = || jobs.iter().filter(|job| is_beginning(text, job)).collect();
    let is_name = !by_name.is_empty();
    let found: Vec<&JobSummary> = if is_name { by_name } else { by_id() };
    let present: Vec<&JobSummary> = found.iter().copied().filter(|job| !job.state.is_over()).collect();
    let last = found.iter().max_by_key(|job| job.start_time).filter(|_| is_name && present.is_empty());
    if let Some(last) = last {
        return Ok(last.jid);
    }
    match (found.as_slice(), present.as_slice()) {
        ([job], _) | (_, [job]) => Ok(job.jid),
        ([], _) => Err(Error::job(format!(
            "no job is called '{text}', and no job's id begins so; 'tidegate list -a' lists all jobs"
        ))),
        _ => {
            // An id may be that of a job that is over; a name means one that is not.
            let any = if is_name && !present.is_empty() { &present } else { &found };
            Err(Error::job(format!("'{text}' may mean any of these jobs; give an id:\n{}", list(any))))
        }
    }
}

fn is_beginning(text: &str, job: &JobSummary) -> bool {
    !text.is_empty() && job.jid.to_string().starts_with(&text.to_ascii_lowercase())
}

fn list(jobs: &[&JobSummary]) -> String {
    let mut table = Table::new(["", "", "", ""]);
    for job in jobs {
        table.row([job.jid.to_string(), job.name.clone(), job.state.to_string(), utc(job.start_time)]);
    }
    table.to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use tidegate_rest::jobs::JobState;

    use super::*;

    fn job(first: u8, name: &str, state: JobState) -> JobSummary {
        let mut id = [0; 16];
        id[0] = first;
        JobSummary {
            jid: JobId(id),
            name: name.to_owned(),
            state,
            start_time: 0,
            end_time: None,
            duration: 0,
            parallelism: 1,
            attempt: 1,
        }
    }

    #[test]
    fn a_job_is_found_by_its_name_or_the_beginning_of_its_id() {
        use JobState::{Finished, Running};
        let later = JobSummary { start_time: 7, ..job(0xc2, "over", Finished) };
        let jobs = [
            job(0xc1, "over", Finished),
            later,
            job(0xc3, "over", Finished),
            job(0xa1, "orders", Running),
            job(0xa2, "orders", Finished),
            job(0xb1, "a", Finished),
            job(0xb2, "twice", Running),
            job(0xb3, "twice", Running),
        ];
        let choose = |text| choose(&jobs, text).map(|id| id.0[0]).map_err(|e| e.to_string());
        assert_eq!(choose("orders"), Ok(0xa1), "the one that is not over");
        assert_eq!(choose("over"), Ok(0xc2), "the last one, if all are over");
        assert_eq!(choose("a2"), Ok(0xa2));
        assert_eq!(choose("A2"), Ok(0xa2));
        assert_eq!(choose("a"), Ok(0xb1), "a name");
        for (text, expected) in [("twice", 2), ("b", 3)] {
            let error = choose(text).unwrap_err();
            assert_eq!(error.lines().count(), 1 + expected, "{error}");
            assert!(
                error.starts_with(&format!("'{text}' may mean any of these jobs; give an id:\nb")),
                "{error}"
            );
        }
        for text in ["order", "d", ""] {
            assert!(choose(text).unwrap_err().contains("'tidegate list -a' lists all jobs"), "{text}");
        }
    }
}
