"""Writers: one module a family of formats, each with a function ``write``; see `vdeploy.export.writer_api.Writer`."""
