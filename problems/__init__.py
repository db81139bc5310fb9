"""The problems that come with `implicit`, one file each; installed as `implicit_problems` and reached by name, as any plug-in."""
