"""The composition root: the only folder that names concrete adapters. A file a role, so that no role imports another's."""
