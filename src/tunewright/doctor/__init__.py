"""What this machine and this project are fit for: fact, verdict, fix."""
