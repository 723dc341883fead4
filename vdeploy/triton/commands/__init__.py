"""The operations of `vdeploy serve`, `deploy` and `rollback`, each a call with one request object."""
