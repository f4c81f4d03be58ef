# Reads the floors out of the first file, and the imports out of the others; see `floors`.

function module_of(path) {
    sub(/.*\/src\//, "", path)
    sub(/\.rs$/, "", path)
    gsub(/\//, "::", path)
    return path
}

# The floor of a module: its own, or that of the nearest folder that has one.
function floor_of(module) {
    while (!(module in floors)) {
        if (module !~ /::/) return 0
        sub(/::[^:]*$/, "", module)
    }
    return floors[module]
}

function folder_of(module) {
    sub(/::.*/, "", module)
    return module
}

function complain(text) {
    print crate ": " text
    failed = 1
}

function check(target,    own, other) {
    own = floor_of(module)
    other = floor_of(target)
    if (!other) {
        # A name that the root exports stands on the floor of its own module, which this script does not know.
        complain(module " imports " target ", which is on no floor")
    } else if (folder_of(target) == folder_of(module) && own == other) {
        return
    } else if (other >= own) {
        complain(module " (floor " own ") imports " target " (floor " other ")")
    }
}

# Takes `a::{b::C, d::{E, F}}` apart into modules: those names that begin with a small letter.
function take_apart(text, prefix,    depth, i, c, item, head) {
    depth = 0
    item = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "," && depth == 0) {
            take(item, prefix)
            item = ""
            continue
        }
        if (c == "{") depth++
        if (c == "}") depth--
        item = item c
    }
    take(item, prefix)
}

function take(item, prefix,    brace, path) {
    sub(/ as .*/, "", item)
    gsub(/[ \n\t]/, "", item)
    if (item == "" || item == "self") return
    brace = index(item, "{")
    if (brace) {
        path = substr(item, 1, brace - 3)
        take_apart(substr(item, brace + 1, length(item) - brace - 1), prefix == "" ? path : prefix "::" path)
        return
    }
    path = prefix == "" ? item : prefix "::" item
    # The module is what comes before the first type or the last function.
    sub(/::[A-Z].*$/, "", path)
    while (!(path in floors) && path ~ /::/ && !(path in files)) sub(/::[^:]*$/, "", path)
    check(path)
}

FNR == 1 {
    file++
    in_tests = 0
    statement = ""
    if (file > 1) module = module_of(FILENAME)
}

file == 1 {
    if ($0 ~ /^\/\/ floor: /) {
        level++
        count = split(substr($0, length("// floor: ") + 1), names, " ")
        for (i = 1; i <= count; i++) floors[names[i]] = level
    }
    if (FNR == 1) for (i = 2; i < ARGC; i++) files[module_of(ARGV[i])] = 1
    next
}

/^#\[cfg\(test\)\]/ { in_tests = 1 }
in_tests { next }

FNR == 1 || !(module in seen) {
    seen[module] = 1
    if (!floor_of(module)) complain(module " is on no floor")
}

/^ *(pub(\([a-z]+\))? )?use crate::/ { statement = $0; sub(/.*use crate::/, "", statement) }
statement != "" && !/use crate::/ { statement = statement $0 }
statement ~ /;/ {
    sub(/;.*/, "", statement)
    if (statement ~ /^\{/) statement = substr(statement, 2, length(statement) - 2)
    take_apart(statement, "")
    statement = ""
}

END { exit failed }
