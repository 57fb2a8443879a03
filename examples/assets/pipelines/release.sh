# release.sh install AGENT, release.sh undo AGENT: release folders and a link named `current`.
# Both may be cut off anywhere and called again. Run from the folder that holds `service` and `agents`.
set -eu

version=$(cat service/VERSION)
home=agents/${2:?name an agent}
note=$home/before-$SWARM_RUN

install_release() {
    mkdir -p "$home/releases"
    # What is live is noted once a run, before anything changes.
    if [ ! -f "$note" ]; then
        readlink "$home/current" >"$note.new" || : >"$note.new"
        mv "$note.new" "$note"
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
    [ -f "$note" ] || return 0
    before=$(cat "$note")
    if [ -n "$before" ]; then
        ln -sfn "$before" "$home/current"
    else
        rm -f "$home/current"
    fi
    [ "$before" = "releases/$version" ] || rm -rf "$home/releases/$version"
    rm "$note"
}

"$1_release"
