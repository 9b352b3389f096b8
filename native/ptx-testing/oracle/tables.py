"""Writing tables of instructions; the format is described in src/tables.rs."""


def write_tables(folder, author, tables):
    """`tables` are (name, what adds the lines of the table to a list, what it is about)."""
    for name, fill, about in tables:
        out = [f"# {about}; written by oracle/{author}."]
        fill(out)
        with open(f"{folder}/{name}.ptx-test", "w") as file:
            file.write("\n".join(out) + "\n")


def hexadecimal(values):
    return " ".join(f"{value:#x}" for value in values)
