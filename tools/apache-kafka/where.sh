# SPDX-License-Identifier: Apache-2.0
#
# Where the Apache Kafka of the tests lies, and how its programs are called. It is kept outside the clone, so that
# `make clean` and a second clone need not fetch it again; for root in a place that an unprivileged server can read.
# shellcheck shell=bash disable=SC2034

kafka_version=3.9.1
if [ "$(id -u)" = 0 ]; then
    kafka_home=/var/cache/saga/kafka-$kafka_version
else
    kafka_home=${XDG_CACHE_HOME:-$HOME/.cache}/saga/kafka-$kafka_version
fi
# The first compiler only, and no parallel collector: a broker that starts fast and leaves the cores to the tests.
kafka_java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -XX:-UsePerfData -cp "$kafka_home/jars/*")
