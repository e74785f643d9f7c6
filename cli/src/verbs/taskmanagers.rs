//! `tidegate taskmanagers`.

use tidegate_protocol::Result;
use tidegate_rest::cluster::{TaskManager, TaskManagers};

use super::Session;
use crate::output::{Table, answer, answer_json, say, snake_case};

/// Lists the taskmanagers.
pub(crate) fn taskmanagers(session: &Session) -> Result<()> {
    let list: TaskManagers = session.client.get("/v1/taskmanagers")?;
    if session.is_json() {
        answer_json(&snake_case(&list.taskmanagers)?)?;
    } else if list.taskmanagers.is_empty() {
        say("No taskmanager has connected yet; 'tidegate taskmanager' starts one.");
    } else {
        answer(table(&list.taskmanagers))?;
    }
    Ok(())
}

fn table(taskmanagers: &[TaskManager]) -> Table {
    let mut table = Table::new(["ID", "STATE", "SLOTS", "FREE", "PID", "ADDRESS"]);
    for TaskManager { id, pid, address, slots, free, state } in taskmanagers {
        let cells = [id, state, &slots.to_string(), &free.to_string(), &pid.to_string(), address];
        table.row(cells.map(Clone::clone));
    }
    table
}
