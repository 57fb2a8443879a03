# Arithmetic over whole numbers, as far as a POSIX shell goes.

all_numbers() {
    [ $# -gt 0 ] || return 1
    for number in "$@"; do
        case $number in
        '' | *[!0-9]*) return 1 ;;
        esac
    done
}

total() {
    sum=0
    for number in "$@"; do
        sum=$((sum + number))
    done
    echo "$sum"
}

# TODO: round to the nearest minute instead of down.
mean() {
    echo $(($(total "$@") / $#))
}

largest() {
    most=$1
    for number in "$@"; do
        [ "$number" -le "$most" ] || most=$number
    done
    echo "$most"
}

# By how many percent the second number is above the first. A baseline of 0 has no percents.
drift() {
    [ "$1" -ne 0 ] || return 1
    echo $((($2 - $1) * 100 / $1))
}
