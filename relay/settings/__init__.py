"""The configuration: one YAML file becomes typed settings, or a list of all problems with line and column.

load         reads a file, in the order of these modules
_reader      YAML text, environment, secret files and models: nodes, parser, secret_files, validate, explain
models       the file as a whole
options      the options of every provider
http         the options of providers over HTTP
values       durations, rates, sizes, secrets
template     texts that each message fills: `${payload.…}`
checks       rules between fields
schema       the JSON Schema of the file
reference    the keys in words, for the documentation and `relay providers`
redaction    the secrets of a configuration, for logs and reasons
"""
