# SPDX-License-Identifier: MIT
# cmake --install: the library, its headers, the interface, and what
# find_package(kevent) and pkg-config look for.
include(CMakePackageConfigHelpers)

set(KEVENT_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/kevent)

install(TARGETS kevent EXPORT kevent)
install(DIRECTORY include/kevent DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT kevent NAMESPACE kevent::
    FILE kevent-targets.cmake DESTINATION ${KEVENT_CONFIG_DIR})

configure_package_config_file(
    ${CMAKE_CURRENT_LIST_DIR}/kevent-config.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/kevent-config.cmake
    INSTALL_DESTINATION ${KEVENT_CONFIG_DIR})
write_basic_package_version_file(
    ${CMAKE_CURRENT_BINARY_DIR}/kevent-config-version.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES
    ${CMAKE_CURRENT_BINARY_DIR}/kevent-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/kevent-config-version.cmake
    DESTINATION ${KEVENT_CONFIG_DIR})

# Where the prefix is from there: an install can be moved.
file(RELATIVE_PATH KEVENT_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/kevent.pc.in
    ${CMAKE_CURRENT_BINARY_DIR}/kevent.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kevent.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
