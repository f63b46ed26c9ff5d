"""All SQL of the stream server: schema, migrations, statements, and the one writer."""
