"""What each verb does: opens the project, calls stages, prints results on stdout."""
