const char *probe_version(void) { return PROBE_VERSION; }
