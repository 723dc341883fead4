"""What `vdeploy serve`, `deploy` and `rollback` do, each as one call with one request."""
