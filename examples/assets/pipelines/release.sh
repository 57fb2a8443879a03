# release.sh install AGENT, release.sh undo AGENT: release folders and a link named `current`.
# Both may be cut off anywhere and called again. Run from the folder that holds `service` and `agents`.
set -eu

version=$(cat service/VERSION)
home=agents/$2

install_release() {
    mkdir -p "$home/releases"
    # What is live is noted once, before anything changes.
    if [ ! -f "$home/before" ]; then
        readlink "$home/current" >"$home/before.new" || : >"$home/before.new"
        mv "$home/before.new" "$home/before"
    fi
    if [ ! -d "$home/releases/$version" ]; then
        rm -rf "$home/releases/.$version"
        cp -R service "$home/releases/.$version"
        mv "$home/releases/.$version" "$home/releases/$version"
    fi
    ln -sfn "releases/$version" "$home/current"
}

undo_release() {
    # Without the note nothing was done.
    [ -f "$home/before" ] || return 0
    before=$(cat "$home/before")
    if [ -n "$before" ]; then
        ln -sfn "$before" "$home/current"
    else
        rm -f "$home/current"
    fi
    [ "$before" = "releases/$version" ] || rm -rf "$home/releases/$version"
    rm "$home/before"
}

"$1_release"
