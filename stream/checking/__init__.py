"""What a worker would make of a topic's records, or of a file's, before there is one."""
