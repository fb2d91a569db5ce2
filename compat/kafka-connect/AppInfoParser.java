package org.apache.kafka.common.utils;

/** Where release 4.4.0 does not have it any more, and the file connectors of 4.3.1 look for it. */
public final class AppInfoParser {
    public static String getVersion() {
        return org.apache.kafka.common.utils.internals.AppInfoParser.getVersion();
    }
}
