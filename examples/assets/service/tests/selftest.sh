# Sourced by `service --selftest`. Every check is a line; the first that fails ends it.

expect() {
    [ "$2" = "$3" ] || {
        echo "not ok: $1 is '$2' and should be '$3'"
        exit 1
    }
    echo "ok: $1"
}

expect 'total 1 2 3' "$(total 1 2 3)" 6
expect 'mean 30 60' "$(mean 30 60)" 45
expect 'largest 3 9 4' "$(largest 3 9 4)" 9
expect 'drift 40 50' "$(drift 40 50)" 25
expect 'answer mean' "$(answer mean)" 'error: mean needs whole numbers'
expect 'answer drift 0 1' "$(answer drift 0 1)" "error: drift of '0 1' has no answer"
if all_numbers 1 two; then expect 'all_numbers 1 two' yes no; fi
expect 'version' "$(version)" "$(cat "$root/VERSION")"
