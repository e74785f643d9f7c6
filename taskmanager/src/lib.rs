//! The taskmanager: runs the processes of jobs on one host.
