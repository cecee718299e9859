#!/bin/sh
# build.sh FOLDER: the image as an OCI archive in FOLDER, without a container engine or a registry. Both bases are made of
# Debian's packages, as like the public ones as can be. Needs root, buildah and mmdebstrap.
set -eu
folder=$1
mkdir -p "$folder"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store="--root $folder/store --runroot $folder/run"
base() { # NAME VARIANT PACKAGES
    [ -s "$folder/$1.tar" ] || mmdebstrap --quiet --variant="$2" --include="$3" bookworm "$folder/$1.tar"
    made=$(buildah $store from scratch)
    buildah $store add "$made" "$folder/$1.tar" / >/dev/null
    buildah $store commit --quiet --rm "$made" "localhost/$1" >/dev/null
}
base build essential python3,python3-pip,ca-certificates
base runtime extract python3-minimal,python3.11,libpython3.11-stdlib,libc6,libstdc++6,ca-certificates,netbase,tzdata,base-files,base-passwd
rm -rf build/wheels
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --dest build/wheels -r requirements/runtime.txt -r requirements/build.txt
buildah $store bud --quiet --pull-never --build-arg BUILD_BASE=localhost/build --build-arg RUN_BASE=localhost/runtime \
    --build-arg PIP_ARGS=--no-index --tag localhost/inferometer . >/dev/null
rm -f "$folder/inferometer.tar"
buildah $store push --quiet localhost/inferometer "oci-archive:$folder/inferometer.tar"
# The root file system, to be run without an engine.
made=$(buildah $store from --pull-never localhost/inferometer)
rm -rf "$folder/root"
cp -a "$(buildah $store mount "$made")" "$folder/root"
buildah $store inspect --type image localhost/inferometer >"$folder/image.json"
buildah $store rm "$made" >/dev/null
echo "compressed $(($(stat -c %s "$folder/inferometer.tar") / 1000000)) MB, unpacked $(($(du -sb "$folder/root" | cut -f1) / 1000000)) MB"
