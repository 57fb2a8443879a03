# What the service answers to a question, and the loop that reads questions.

version() {
    read -r version <"$root/VERSION"
    echo "$version"
}

answer() {
    question=${1:-nothing}
    [ $# -eq 0 ] || shift
    case $question in
    version)
        version
        return
        ;;
    mean | total | largest | drift) ;;
    *)
        echo "error: there is no question '$question'; ask for version, mean, total, largest or drift of some numbers"
        return
        ;;
    esac
    if ! all_numbers "$@"; then
        echo "error: $question needs whole numbers"
        return
    fi
    "$question" "$@" || echo "error: $question of '$*' has no answer"
}

serve() {
    while read -r line; do
        [ "$line" != quit ] || return 0
        # Words are meant to be split here; the shell was told not to expand patterns.
        answer $line
    done
}
